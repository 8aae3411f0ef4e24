//! The names of the lists. The build script reads this file too, so that a list exists once: here.

/// Which files must or may hold a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Every language must have it; `any.toml` may.
    EveryLanguage,
    /// Any file may have it.
    Anyone,
    /// `any.toml` alone.
    NoLanguage,
}

macro_rules! lists {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $owner:ident;)*) => {
        /// A list of words. `words/README.md` says what each holds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum List { $($(#[$doc])* $variant,)* }

        impl List {
            /// Each list with its name in the files and who has it.
            pub const ALL: &[(List, &'static str, Owner)] = &[$((List::$variant, $name, Owner::$owner),)*];
        }
    };
}

lists! {
    /// Nouns for people by what they do.
    Occupations = "occupations", EveryLanguage;
    /// Other words of jobs' names.
    TitleWords = "title_words", EveryLanguage;
    /// Headings above tasks.
    SectionTasks = "sections.tasks", EveryLanguage;
    /// Headings above what is asked of people.
    SectionProfile = "sections.profile", EveryLanguage;
    /// Headings above what is offered.
    SectionOffer = "sections.offer", EveryLanguage;
    /// Headings above a text about the employer.
    SectionEmployer = "sections.employer", EveryLanguage;
    /// Headings above how to apply.
    SectionApply = "sections.apply", EveryLanguage;
    /// Names of the fact "employer".
    LabelCompany = "labels.company", EveryLanguage;
    /// Names of the fact "place".
    LabelLocation = "labels.location", EveryLanguage;
    /// Names of the fact "kind of contract".
    LabelEmployment = "labels.employment", EveryLanguage;
    /// Names of the fact "remote or not".
    LabelWorkplace = "labels.workplace", EveryLanguage;
    /// Names of the fact "pay".
    LabelSalary = "labels.salary", EveryLanguage;
    /// Names of the fact "posted on".
    LabelPosted = "labels.posted", EveryLanguage;
    /// Names of the fact "open until".
    LabelUntil = "labels.until", EveryLanguage;
    /// Names of the fact "department".
    LabelDepartment = "labels.department", EveryLanguage;
    /// Names of the fact "number of the posting".
    LabelReference = "labels.reference", EveryLanguage;
    /// Names of the fact "begins on".
    LabelStart = "labels.start", EveryLanguage;
    /// Full time.
    FullTime = "employment.full_time", EveryLanguage;
    /// Part time.
    PartTime = "employment.part_time", EveryLanguage;
    /// Freelance and the like.
    Contract = "employment.contract", EveryLanguage;
    /// For a time.
    Temporary = "employment.temporary", EveryLanguage;
    /// Internships, apprenticeships.
    Internship = "employment.internship", EveryLanguage;
    /// From anywhere.
    Remote = "workplace.remote", EveryLanguage;
    /// Partly from elsewhere.
    Hybrid = "workplace.hybrid", EveryLanguage;
    /// At the employer's.
    OnSite = "workplace.on_site", EveryLanguage;
    /// Words of the lists above that mean other things beside other nouns ("hybrid cloud").
    Ambiguous = "workplace.ambiguous", Anyone;
    /// Follow "remote" or "hybrid" where these say how one works.
    WorkWords = "work_words", EveryLanguage;
    /// Beside these an amount is pay.
    Pay = "pay", EveryLanguage;
    /// Beside these an amount is no pay.
    Benefits = "benefits", EveryLanguage;
    /// Before an upper bound.
    AmountUpTo = "amount.up_to", EveryLanguage;
    /// Before a lower bound.
    AmountFrom = "amount.from", EveryLanguage;
    /// Between two bounds.
    AmountRange = "amount.range", EveryLanguage;
    /// Behind a number of working hours, days or weeks.
    AmountHours = "amount.hours", EveryLanguage;
    /// Before the number of a pay scale's step ("grade 7").
    AmountScale = "amount.scale", Anyone;
    /// Behind a number of thousands.
    AmountThousand = "amount.thousand", Anyone;
    /// Behind a number of ten thousands.
    AmountTenThousand = "amount.ten_thousand", Anyone;
    /// Behind a number of hundred thousands.
    AmountLakh = "amount.lakh", Anyone;
    /// Behind a number of millions.
    AmountMillion = "amount.million", Anyone;
    /// Joins a second sum to a first ("plus", "and").
    AmountPlus = "amount.plus", Anyone;
    /// An hour, as pay is counted.
    PeriodHour = "period.hour", EveryLanguage;
    /// A day.
    PeriodDay = "period.day", EveryLanguage;
    /// A week.
    PeriodWeek = "period.week", EveryLanguage;
    /// A month.
    PeriodMonth = "period.month", EveryLanguage;
    /// A year.
    PeriodYear = "period.year", EveryLanguage;
    /// Names of months; see `Text::months`.
    Months = "months", EveryLanguage;
    /// Today, just now.
    Today = "time.today", EveryLanguage;
    /// Yesterday.
    Yesterday = "time.yesterday", EveryLanguage;
    /// Minutes, behind a number.
    TimeMinute = "time.minute", EveryLanguage;
    /// Hours.
    TimeHour = "time.hour", EveryLanguage;
    /// Days.
    TimeDay = "time.day", EveryLanguage;
    /// Weeks.
    TimeWeek = "time.week", EveryLanguage;
    /// Months.
    TimeMonth = "time.month", EveryLanguage;
    /// Years.
    TimeYear = "time.year", EveryLanguage;
    /// Stands for the number one ("a week ago").
    TimeOne = "time.one", Anyone;
    /// Beside a time past ("ago", "vor").
    Ago = "time.ago", EveryLanguage;
    /// Before a time to come ("in", "noch").
    AheadBefore = "time.ahead_before", EveryLanguage;
    /// Behind a time to come ("left").
    AheadBehind = "time.ahead_behind", EveryLanguage;
    /// Begins a line with the day of posting.
    Posted = "posted", EveryLanguage;
    /// Begins a line with the last day to apply.
    Until = "until", EveryLanguage;
    /// Says that this job is gone.
    Closed = "closed", EveryLanguage;
    /// Says that a search found nothing.
    Empty = "empty", EveryLanguage;
    /// Refuses a visit.
    Blocked = "blocked", EveryLanguage;
    /// A button or link to apply.
    Apply = "apply", EveryLanguage;
    /// Jobs and careers in general.
    Jobs = "jobs", EveryLanguage;
    /// Headings above any job.
    General = "general", EveryLanguage;
    /// What a link or button does.
    Actions = "actions", EveryLanguage;
    /// Headings above other people's jobs.
    Similar = "similar", EveryLanguage;
    /// A link to a list's next page.
    NextPage = "next_page", EveryLanguage;
    /// A site's own pages.
    Site = "site", EveryLanguage;
    /// Beside people rather than jobs.
    People = "people", EveryLanguage;
    /// Legal forms of companies.
    LegalForms = "legal_forms", EveryLanguage;
    /// Words for the reader.
    SecondPerson = "second_person", EveryLanguage;
    /// Parts of addresses that do something rather than show a page.
    AddressActions = "address.actions", NoLanguage;
    /// Parts of addresses about a site itself.
    AddressSite = "address.site", NoLanguage;
    /// Parts of addresses that lead to jobs, beside the words for jobs.
    AddressJobs = "address.jobs", NoLanguage;
    /// Names of a list's page in paths.
    AddressPage = "address.page", NoLanguage;
    /// Names of a list's page in queries.
    AddressPageQuery = "address.page_query", NoLanguage;
    /// Countries by their ISO 3166-1 codes; see `Text::countries`.
    Countries = "countries", NoLanguage;
    /// Regions by their ISO 3166-2 codes, as that standard does not name them; see `Text::regions`.
    Regions = "regions", NoLanguage;
    /// Cities by the countries that their name alone means; see `Text::cities`.
    Cities = "cities", NoLanguage;
    /// Names of job boards.
    Boards = "boards", NoLanguage;
    /// Currencies by their ISO 4217 codes; see `Text::currencies`.
    Currencies = "currencies", NoLanguage;
    /// "(m/f/d)" and the like.
    GenderMarks = "gender_marks", NoLanguage;
}
